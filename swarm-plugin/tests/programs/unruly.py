#!/usr/bin/env python3
"""A server that does what it is told, however bad: {"do": ...}."""
import json, os, resource, socket, subprocess, sys, threading, time

if os.path.exists("mute"):
    time.sleep(1000)
lock = threading.Lock()
cancelled = {}
here = threading.local()


def tool(name):
    return {"name": name, "description": "bad\u001b[2J", "inputSchema": {"type": "object"}}


tools = [tool(name) for name in os.environ.get("TOOLS", "unruly").split(",")]


def send(message):
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def tell(method, params):
    send({"method": method, "params": params})


def change(names):
    tools[:] = [tool(name) for name in names]
    tell("notifications/tools/list_changed", {})


def storm(seconds):
    end, first = time.time() + seconds, tools[0]["name"]
    while time.time() < end:
        for extra in ("left", "right"):
            change([first, extra])
            time.sleep(0.002)


def act(params):
    do = params.get("do")
    if do == "progress":
        for done in params["steps"]:
            tell("notifications/progress", {"progressToken": here.token, "progress": done, "total": 9, "message": "a\u001b[2Jb"})
    if do == "wait":
        tell("notifications/progress", {"progressToken": here.token, "progress": 1})
        cancelled.setdefault(here.id, threading.Event()).wait()
        open("cancelled", "w").close()
    if do == "look":
        return {"structuredContent": {"cancelled": os.path.exists("cancelled")}}
    if do == "tools":
        for _ in range(params.get("times", 1)):
            change(params["names"])
    if do == "descriptors":
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for file in held:
                os.close(file)
            return {"structuredContent": {"held": len(held)}}
    if do == "file":
        try:
            os.truncate(os.open("big", os.O_CREAT | os.O_RDWR), params["bytes"])
        except OSError as error:
            return {"structuredContent": {"error": error.strerror}}
    if do == "bomb":
        # Each starts two.
        subprocess.Popen([sys.executable, "-c", BOMB, str(params["depth"]), params["mark"]])
        while sum(1 for line in open(params["mark"])) < 2 ** params["depth"] - 1:
            pass
    if do == "pid":
        return {"structuredContent": {"pid": os.getpid()}}
    if do == "limits":
        return {"structuredContent": {"processes": resource.getrlimit(resource.RLIMIT_NPROC)[0]}}
    if do == "lines":
        with lock:
            for _ in range(params["count"]):
                sys.stdout.write('{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}\n')
    if do == "storm":
        # Has answered long before it is over.
        threading.Thread(target=storm, args=[params["seconds"]], daemon=True).start()
    if do == "mute":
        open("mute", "w").close()
        os._exit(0)
    if do == "leave":
        # What it leaves behind holds the streams.
        subprocess.Popen(["sleep", "1000"])
        os._exit(0)
    if do == "large":
        return {"structuredContent": {"text": "x" * params["bytes"]}}
    if do == "huge":
        with lock:
            sys.stdout.write('{"jsonrpc": "2.0", "id": %s, "result": {"structuredContent": {"text": "' % json.dumps(here.id))
            for _ in range(params["gib"] * 1024):
                sys.stdout.write("x" * 1024 * 1024)
            sys.stdout.write('"}}}\n')
            sys.stdout.flush()
        return None
    if do == "panic":
        raise ValueError("oh no")
    if do == "stack":
        sys.setrecursionlimit(1 << 30)
        deep = []
        for _ in range(1000000):
            deep = [deep]
        repr(deep)
    if do == "write":
        open(params["path"], "w").close()
    if do == "network":
        socket.create_connection(("127.0.0.1", params["port"])).close()
    if do == "exit":
        os._exit(params.get("code", 0))
    if do == "abort":
        os.abort()
    if do == "loop":
        while True:
            pass
    if do == "sleep":
        time.sleep(params["seconds"])
        return {"structuredContent": params}
    if do == "fail":
        return {"content": [{"type": "text", "text": "no\u001b[2J luck"}], "isError": True}
    if do == "text":
        return {"content": [{"type": "text", "text": params["text"]}]}
    if do == "flood":
        with lock:
            for _ in range(params["mib"]):
                sys.stdout.write("x" * 1024 * 1024)
            sys.stdout.write("\n")
    if do == "garbage":
        with lock:
            print('{"jsonrpc": "2.0", "id": 99999, "result": {}}\nnot json\n[1, 2\n\x00\xff', flush=True)
    if do == "shout":
        sys.stderr.write("\u001b[2Jx" * 1024 * 1024)
        sys.stderr.flush()
    if do == "spawn":
        child = subprocess.Popen(["sleep", "1000"])
        return {"structuredContent": {"pid": os.getpid(), "child": child.pid}}
    if do == "memory":
        hog = bytearray(params["mib"] * 1024 * 1024)
        return {"structuredContent": {"bytes": len(hog)}}
    if do == "environment":
        return {"structuredContent": {"env": dict(os.environ), "cwd": os.getcwd()}}
    return {"structuredContent": {"done": do}}


BOMB = """
import os, subprocess, sys, time
depth, mark = int(sys.argv[1]), sys.argv[2]
with open(mark, "a") as file:
    file.write(f"{os.getpid()}\\n")
if depth > 1:
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", os.environ["BOMB"], str(depth - 1), mark])
time.sleep(1000)
"""
os.environ["BOMB"] = BOMB


def answer(ask):
    here.id, here.token = ask["id"], ask["params"].get("_meta", {}).get("progressToken")
    try:
        result = act(ask["params"].get("arguments", {}))
        if result is not None:
            send({"id": ask["id"], "result": result})
    except MemoryError:
        send({"id": ask["id"], "error": {"code": -32603, "message": "out of memory"}})
    except Exception as error:
        send({"id": ask["id"], "error": {"code": -32603, "message": str(error)}})


for line in sys.stdin:
    ask = json.loads(line)
    method = ask.get("method")
    if method == "initialize":
        send({"id": ask["id"], "result": {"protocolVersion": ask["params"]["protocolVersion"],
             "capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "unruly", "version": "1.0.0"}}})
    elif method == "tools/list":
        # A time for which the list may be kept does not outlive the news that it has changed.
        page = {"tools": tools, "ttlMs": 3600000}
        if "PAGES" in os.environ:
            page = {"tools": [], "nextCursor": "x" * int(os.environ["PAGES"])}
        send({"id": ask["id"], "result": page})
    elif method == "notifications/cancelled":
        cancelled.setdefault(ask["params"]["requestId"], threading.Event()).set()
    elif method == "tools/call" and ask["params"].get("arguments", {}).get("do") == "deaf":
        for number in range(ask["params"]["arguments"]["questions"]):
            send({"id": f"q{number}", "method": "ping"})
        time.sleep(1000)
    elif method == "tools/call":
        threading.Thread(target=answer, args=[ask], daemon=True).start()
    elif method and "id" in ask:
        send({"id": ask["id"], "result": {}})

if "STUBBORN" in os.environ:
    time.sleep(1000)
