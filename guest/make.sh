#!/bin/sh
# Builds guest/build/corral-guest, one static program from every guest/*.c, and guest/build/attempts/, what `corral doctor --attack` runs inside.
#   guest/make.sh [--musl | --arm64] [--asan] [--fuzz] [--out FILE]     (a flag: no attempts)
# Without a flag: with musl-gcc where there is one, else with cc ($CC).   --musl: musl-gcc or nothing.   --arm64: guest/build/corral-guest-arm64 with aarch64-linux-gnu-gcc.
# --asan:  guest/build/corral-guest-asan, not static, with AddressSanitizer and UBSan.
# --fuzz:  guest/build/fuzz-*, one per guest/test/fuzz-*.c, with clang and libFuzzer.
set -eu
cd "$(dirname "$0")"
mkdir -p build
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' ../package.json)
warn="-std=c11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2"
common="$warn -I. -DGUEST_VERSION=\"$version\""
hard="-O2 -fstack-protector-strong -fno-plt -ffunction-sections -fdata-sections -Wl,--gc-sections -Wl,-z,noexecstack"
cc=${CC:-cc} musl=auto out=build/corral-guest kind=static fuzz=no attempts=no
[ $# -gt 0 ] || attempts=yes
while [ $# -gt 0 ]; do
  case $1 in
    --musl) cc=musl-gcc musl=yes ;;
    --arm64) cc=aarch64-linux-gnu-gcc musl=no out=build/corral-guest-arm64 ;;
    --asan) kind=asan musl=no out=build/corral-guest-asan ;;
    --fuzz) fuzz=yes musl=no ;;
    --out) out=${2:?--out needs a file} && shift ;;
    *) echo "make.sh: unknown flag $1" >&2; exit 2 ;;
  esac
  shift
done
# glibc names errors, musl does not.
if [ $attempts = yes ]; then
  mkdir -p build/attempts
  for source in ../src/attack/programs/*.c; do
    name=build/attempts/$(basename "$source" .c)
    $cc -std=gnu11 -O1 -static -pthread -Wall -Wextra -Werror "$source" -o "$name.$$"
    mv "$name.$$" "$name"
  done
fi
# At its start a program of glibc asks the processor some fifty questions that a virtual machine answers slowly: about 0.3 ms, twice
# for each sandbox. One of musl asks none.
if [ $musl = auto ] && [ -z "${CC-}" ] && command -v musl-gcc >/dev/null; then cc=musl-gcc musl=yes; fi
if [ $musl = yes ]; then
  # musl-gcc searches its own headers alone; the kernel's are the same for every libc.
  mkdir -p build/musl-include
  asm=/usr/include/$(cc -print-multiarch)/asm
  [ -d "$asm" ] || asm=/usr/include/asm
  ln -sfn /usr/include/linux build/musl-include/linux
  ln -sfn /usr/include/asm-generic build/musl-include/asm-generic
  ln -sfn "$asm" build/musl-include/asm
  common="$common -idirafter build/musl-include -include musl.h"
fi
if [ $fuzz = yes ]; then
  for harness in test/fuzz-*.c; do
    name=build/$(basename "$harness" .c)
    sources=$(sed -n 's/^ \* fuzz-sources: \(.*\) \*\/$/\1/p' "$harness")
    # shellcheck disable=SC2086
    clang $common -g -O1 -D_FORTIFY_SOURCE=0 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined "$harness" $sources -o "$name"
    echo "guest/$name"
  done
  exit 0
fi
# A new program is put in place in one step: somebody may be starting the old one.
# shellcheck disable=SC2086
if [ $kind = asan ]; then
  $cc $common -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined ./*.c -o "$out.$$"
else
  $cc $common $hard -static -s ./*.c -o "$out.$$"
fi
mv "$out.$$" "$out"
# What a sandbox with a network is shown of it, as the two layers of an overlay.
if [ $out = build/corral-guest ]; then
  mkdir -p build/inside/bin build/inside/empty
  ln -f "$out" build/inside/bin/corral-connect
fi
echo "$out"
