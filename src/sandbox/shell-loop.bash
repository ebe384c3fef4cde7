# The bash side of a shell: takes commands from descriptor 3, tells their ends on 4. It is itself the first record there, never run as a file.
# Records in, each ended by NUL: `+N` and then N bytes, which are added to the command; `=ID N` runs it if it is N bytes long by now, or, for
# 0, runs nothing and answers; any other drops what was added. Out: `ID STATUS CWD`, ended by NUL.
# Invariant: a command runs only when it came whole; neither descriptor is open to what a command starts; what bash writes to stdout and
# stderr is the command's alone. Made for bash 4.4 and later.

# Above what people use, so that `exec 3<file` in a command lasts.
exec 198<&3 199>&4 3<&- 4>&-

__corral_status() { builtin return "$1"; }
__corral_tell() { builtin printf '%s %d %s\0' "$1" "$2" "$PWD" >&199; }

# Tells the end of the command before, if there was one, and waits for the next. $1: the status of what ran last.
__corral_next() {
  [[ $__corral_own && $1 == 0 ]] || __corral_code=$1
  [[ $__corral_id ]] && __corral_tell "$__corral_id" "$__corral_code"
  __corral_id= __corral_busy= __corral_text= __corral_own= __corral_stop=0
  builtin local LC_ALL=C line part
  # read -d takes one byte a call from a pipe, read -N as many as it is told.
  while IFS= builtin read -r -d '' -u 198 line; do
    case $line in
      +[1-9]*) IFS= builtin read -r -N "${line#+}" -u 198 part && __corral_text+=$part ;;
      =*)
        line=${line#=}
        if [[ ${line#* } == 0 ]]; then
          __corral_tell "${line% *}" "$__corral_code"
        elif [[ ${#__corral_text} == "${line#* }" ]]; then
          __corral_id=${line% *} __corral_busy=1
          [[ $- == *e* || $__corral_text == *set* ]] && __corral_careful
          builtin return 0
        fi
        __corral_text=
        ;;
      *) __corral_text= ;;
    esac
  done
  builtin exit 0
}

# Under set -e the status of a command such as `test -f x && y` does not end a shell, but that of the eval around it would, and so would the
# status that is handed on as $?. So the command tells its status itself, unless what is put behind it could become a part of it.
__corral_careful() {
  [[ $- == *e* ]] && __corral_code=0
  [[ $__corral_text == *'<<'* || $__corral_text =~ [\\\|\&][[:space:]]*$ ]] && builtin return
  __corral_own=1 __corral_text+=$'\n{ __corral_code=$?; } 2>/dev/null'
}

__corral_id= __corral_busy= __corral_text= __corral_code=0 __corral_own= __corral_stop=0

# SIGINT ends the program in the foreground by itself, and bash runs this trap. At the top `break` drops the rest of the command. Inside of
# functions there is no loop of ours to leave: the DEBUG trap goes on until the top is reached, since with extdebug its status 1 skips a
# command and 2 returns from a function (`break 0` leaves every loop and fails).
__corral_debug='[[ $BASH_COMMAND == "trap - DEBUG" ]] || { break 0; __corral_status 2; } 2>/dev/null'
__corral_int='[[ ${__corral_busy-} ]] && { __corral_stop=130; shopt -s extdebug; trap "$__corral_debug" DEBUG; break 999; } 2>/dev/null'
trap "$__corral_int" INT

# The report stands in the condition, so `continue` in a command comes there too; after a `break` the loop begins anew. eval with both ends
# closed: bash keeps its own copies above them, close-on-exec. bash 5.2 forgets the INT trap once a function was left by the DEBUG trap.
__corral_loop='while { __corral_next "$?"; } 2>/dev/null; do { __corral_status "$__corral_code"; } 2>/dev/null; eval "$__corral_text" 198<&- 199>&-; done; trap - DEBUG; shopt -u extdebug; trap "$__corral_int" INT; __corral_status "$__corral_stop"; eval "$__corral_loop"'
