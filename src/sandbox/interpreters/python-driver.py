# The Python side of a context: takes cells from its control channel, runs them in one namespace, tells what came of them (wire.ts).
# It runs inside the sandbox beside the code that it runs, so nothing it says is believed beyond its own context.
# Invariant: what it tells carries the word that its call came with, in pieces that the kernel writes whole, so nothing that is written to
# any descriptor breaks or makes an answer by chance; a copy of this process that a cell forked tells nothing.
import ast
import fcntl
import io
import json
import linecache
import os
import signal
import sys
import traceback
import types

FILE = "<corral>"
PIECE_BYTES = 4096
TEXT_MAX = 1 << 20
BUNDLE_MAX = 8 << 20
JSON_TEXT_MAX = 1 << 16
TRACEBACK_MAX = 1 << 16
CELLS_KEPT = 1000
FUTURES = 0
for _name in __import__("__future__").all_feature_names:
    FUTURES |= getattr(__import__("__future__"), _name).compiler_flag
REPRS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_pdf_", "application/pdf"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
    ("_repr_javascript_", "application/javascript"),
)


class Channel:
    """Its ends lie above what programs use; no program that a cell starts has them."""

    def __init__(self, read=os.read, write=os.write, encode=json.JSONEncoder(separators=(",", ":")).encode, decode=json.loads):
        self.read, self.write, self.encode, self.decode = read, write, encode, decode
        self.source, self.sink = self.lift(3), self.lift(4)
        self.word = b""
        self.come = b""
        self.lines = []

    @staticmethod
    def lift(fd):
        for least in (900, 200, 5):
            try:
                high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
            except OSError:
                continue
            os.close(fd)
            return high
        raise OSError("no descriptor is left for the control channel")

    def exactly(self, count):
        while len(self.come) < count:
            part = self.read(self.source, 1 << 16)
            if not part:
                os._exit(0)
            self.come += part
        taken, self.come = self.come[:count], self.come[count:]
        return taken

    def take(self):
        message = self.decode(self.exactly(int.from_bytes(self.exactly(4), "little")))
        self.word = message["word"].encode()
        return message

    def tell(self, kind, value, later=False):
        """`later`: together with what is told next."""
        data = self.encode(value).encode()
        head = b"\n" + self.word + kind
        room = PIECE_BYTES - len(head) - 2
        for at in range(0, len(data), room):
            more = b"+" if at + room < len(data) else b"."
            self.lines.append(head + more + data[at : at + room] + b"\n")
        if later:
            return
        lines, self.lines = self.lines, []
        block = b""
        for line in lines:
            if len(block) + len(line) > PIECE_BYTES:
                self.write(self.sink, block)
                block = b""
            block += line
        self.write(self.sink, block)


def trimmed(told, depth=0):
    """Without our own frames, nor those of an exception behind it."""
    frames = [frame for frame in told.stack if frame.filename != FILE]
    told.stack = traceback.StackSummary.from_list(frames)
    for behind in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if behind is not None and depth < 50:
            trimmed(behind, depth + 1)
    return told


class NoInput(io.TextIOBase):
    """There is nothing to read: a loop over it ends, and who asks for a line is told why there is none."""

    encoding = "utf-8"

    def readable(self):
        return True

    def read(self, size=-1):
        return ""

    def readline(self, size=-1):
        raise EOFError("nothing was given to read: pass `input` with the call")

    def __next__(self):
        raise StopIteration

    def fileno(self):
        return 0


def cut(text, most):
    return text if len(text) <= most else text[:most] + f"\n… {len(text) - most} more characters"


def base64_of(data):
    import base64

    return base64.b64encode(data).decode()


def fitted(value):
    """What JSON can carry: bytes as base64."""
    return base64_of(value) if isinstance(value, (bytes, bytearray)) else value


def own_bundle(value):
    method = getattr(value, "_repr_mimebundle_", None)
    if method is None or isinstance(value, type):
        return {}
    made = method(include=None, exclude=None)
    return made[0] if isinstance(made, tuple) else made


def as_json(value, text):
    if type(value) not in (dict, list) or len(text) > JSON_TEXT_MAX:
        return None
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return None


def bundle_of(value):
    found = {}
    try:
        found.update(own_bundle(value) or {})
    except Exception:
        pass
    for name, mime in REPRS:
        method = None if mime in found or isinstance(value, type) else getattr(value, name, None)
        if method is None:
            continue
        try:
            made = method()
        except Exception:
            continue
        if made is not None:
            found[mime] = made[0] if isinstance(made, tuple) else made
    if "text/plain" not in found:
        found["text/plain"] = repr(value)
    text = found["text/plain"] = cut(str(found["text/plain"]), TEXT_MAX)
    plain = as_json(value, text)
    if plain is not None:
        found.setdefault("application/json", plain)
    return {str(mime): fitted(part) for mime, part in found.items()}


def bounded(bundle):
    """What is too large to tell is left out, and the text says so."""
    sizes = {mime: len(part) if isinstance(part, str) else 0 for mime, part in bundle.items()}
    for mime in sorted(sizes, key=sizes.get, reverse=True):
        if sum(sizes.values()) <= BUNDLE_MAX:
            return bundle
        bundle["text/plain"] = f"{cut(bundle['text/plain'], 1000)}\n… {mime} is left out: {sizes.pop(mime)} characters"
        if mime != "text/plain":
            del bundle[mime]
    return bundle


class Figures:
    """matplotlib without a display: what is shown, and what is still open at the end of a cell, is told as PNG."""

    NAME = "corral_figures"

    def __init__(self, show):
        self.tell = show

    def find_spec(self, name, path=None, target=None):
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self) if name == self.NAME else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        from matplotlib.backends import backend_agg

        module.FigureCanvas = backend_agg.FigureCanvasAgg
        module.FigureManager = backend_agg.FigureManagerBase
        module.show = lambda *_, **__: self.flush()

    def flush(self):
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or sys.modules.get(self.NAME) is None:
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", bbox_inches="tight")
            self.tell({"image/png": base64_of(drawn.getvalue()), "text/plain": repr(figure)})
        pyplot.close("all")


class Context:
    def __init__(self, channel):
        self.channel = channel
        self.home = os.getpid()
        self.running = False
        self.cells = 0
        self.futures = 0
        self.loop = None
        self.module = types.ModuleType("__main__")
        self.module.__dict__.update(__builtins__=__builtins__, display=self.display)
        sys.modules["__main__"] = self.module
        self.figures = Figures(lambda bundle: self.show(bundle, False))
        sys.meta_path.append(self.figures)
        self.out, self.err = sys.stdout, sys.stderr
        for stream in (self.out, self.err):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.interrupts()

    def interrupts(self, signal_=signal.signal):
        # Again for each cell: one that ignored it must not make the next deaf.
        signal_(signal.SIGINT, self.interrupted)

    def interrupted(self, number, frame):
        if self.running:
            raise KeyboardInterrupt

    def display(self, *values):
        """Tells how each value shows itself, before the cell has ended."""
        for value in values:
            self.show(bundle_of(value), False)

    def show(self, bundle, main):
        if os.getpid() == self.home:
            self.flush()
            self.channel.tell(b"R", {"mime": bounded(bundle), "isMain": main}, main)

    def flush(self):
        for stream in (sys.stdout, sys.stderr, self.out, self.err):
            try:
                stream.flush()
            except Exception:
                pass

    def streams(self, text):
        for name, ours in (("stdout", self.out), ("stderr", self.err)):
            if getattr(getattr(sys, name, None), "closed", True):
                setattr(sys, name, ours)
        sys.stdin = NoInput() if text is None else io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")

    def parts(self, code, name):
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        linecache.cache.pop(f"<cell {self.cells - CELLS_KEPT}>", None)
        tree = compile(code, name, "exec", ast.PyCF_ONLY_AST | self.futures, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | self.futures
        if tree.body:
            first = compile(tree, name, "exec", flags, True)
            self.futures |= first.co_flags & FUTURES
            yield first
        if last is not None:
            yield compile(ast.Expression(last.value), name, "eval", flags | self.futures, True)

    def evaluate(self, part):
        value = eval(part, self.module.__dict__)
        if part.co_flags & 0x80:  # CO_COROUTINE: it awaits at the top
            return self.awaited(value)
        return value

    def awaited(self, coroutine):
        import asyncio

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            try:
                self.loop.run_until_complete(task)
            except BaseException:
                pass
            raise

    def cell(self, code):
        name = f"<cell {self.cells}>"
        value = None
        for part in self.parts(code, name):
            value = self.evaluate(part)
        if value is not None and os.getpid() == self.home:
            self.module.__dict__["_"] = value
            self.show(bundle_of(value), True)
        self.figures.flush()

    def told_error(self, error):
        try:
            value = str(error)
        except Exception:
            value = "(its text cannot be made)"
        text = "".join(trimmed(traceback.TracebackException.from_exception(error)).format())
        if len(text) > TRACEBACK_MAX:
            text = text[: TRACEBACK_MAX // 2] + "\n…\n" + text[-TRACEBACK_MAX // 2 :]
        return {"name": type(error).__name__, "value": cut(value, TRACEBACK_MAX), "traceback": text}

    def run(self, request):
        self.cells = request["count"]
        end = {"status": "ok", "error": None}
        before = {name: os.environ.get(name) for name in request.get("env") or {}}
        try:
            os.environ.update(request.get("env") or {})
            self.streams(request.get("input"))
            self.interrupts()
            self.running = True
            self.cell(request["code"])
            self.running = False
        except BaseException as error:
            self.running = False
            end["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
            end["error"] = self.told_error(error)
        if os.getpid() != self.home:
            self.flush()
            os._exit(0)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.flush()
        self.channel.tell(b"E", end)

    def serve(self):
        while True:
            request = self.channel.take()
            if request["op"] == "run":
                self.run(request)


def modules(names):
    for name in names:
        try:
            __import__(name)
        except Exception:
            pass


def dumpable(on):
    """Whether other processes of the sandbox's user may look into this one's memory."""
    import ctypes

    ctypes.CDLL(None).prctl(4, int(on), 0, 0, 0)  # PR_SET_DUMPABLE


class Forker:
    """Forks a context for whoever asks on descriptor 5. It runs no cell, and its children answer for themselves."""

    def __init__(self):
        import gc
        import socket

        self.receive = socket.recv_fds
        self.socket = socket.socket(fileno=5)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.collect()
        gc.freeze()
        # SAFETY: a context must not be able to write into what the next one is forked from.
        dumpable(False)

    def serve(self):
        """Returns in each child."""
        while True:
            token, given, _, _ = self.receive(self.socket, 4, 5)
            if not token:
                os._exit(0)
            child = os.fork()
            if child == 0:
                parent = os.getpid()
                # Twice: an orphan is the child of PID 1, which alone can wait for it.
                if os.fork():
                    os._exit(0)
                self.become(token, given, parent)
                return
            for fd in given:
                os.close(fd)
            os.waitpid(child, 0)

    def become(self, token, given, parent):
        while os.getppid() == parent:
            os.sched_yield()
        os.setsid()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in given]
        answer = fcntl.fcntl(5, fcntl.F_DUPFD_CLOEXEC, 20)
        for number, fd in enumerate(high):
            os.dup2(fd, number)
        dumpable(True)
        os.write(answer, token)
        self.socket.detach()
        # SAFETY: the forker's own channel and socket are its; what stays open could be written to.
        os.closerange(5, os.sysconf("SC_OPEN_MAX"))
        reseed()


def reseed():
    """Python's own generators are seeded anew by each fork; the one of numpy is not."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()


def begin(settings):
    os.environ.update(settings["env"])
    if settings["cwd"] is not None:
        os.chdir(settings["cwd"])
    os.environ.setdefault("MPLBACKEND", f"module://{Figures.NAME}")
    # -I kept both out while nothing of the sandbox's owner was to be imported by chance.
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [""]


READY = {"status": "ok", "error": None}


def main():
    channel = Channel()
    settings = channel.take()
    modules(settings["modules"])
    if settings["forks"]:
        forker = Forker()
        channel.tell(b"E", READY)
        forker.serve()
        channel = Channel()
        settings = channel.take()
    try:
        begin(settings)
    except OSError as error:
        channel.tell(b"E", {"status": "error", "error": {"name": "cwd", "value": str(error.errno), "traceback": ""}})
        os._exit(1)
    context = Context(channel)
    channel.tell(b"E", READY)
    context.serve()


main()
