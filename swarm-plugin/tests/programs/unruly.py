#!/usr/bin/env python3
"""A server that does what it is told, however bad: {"do": ...}."""
import json, os, subprocess, sys, threading, time

TOOL = {"name": "unruly", "description": "bad\u001b[2J", "inputSchema": {"type": "object"}}
lock = threading.Lock()


def send(message):
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def act(params):
    do = params.get("do")
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
        return {"content": [{"type": "text", "text": "no luck"}], "isError": True}
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


def answer(ask):
    try:
        send({"id": ask["id"], "result": act(ask["params"].get("arguments", {}))})
    except MemoryError:
        send({"id": ask["id"], "error": {"code": -32603, "message": "out of memory"}})


for line in sys.stdin:
    ask = json.loads(line)
    method = ask["method"]
    if method == "initialize":
        send({"id": ask["id"], "result": {"protocolVersion": ask["params"]["protocolVersion"],
             "capabilities": {"tools": {}}, "serverInfo": {"name": "unruly", "version": "1.0.0"}}})
    elif method == "tools/list":
        send({"id": ask["id"], "result": {"tools": [TOOL]}})
    elif method == "tools/call":
        threading.Thread(target=answer, args=[ask], daemon=True).start()
    elif "id" in ask:
        send({"id": ask["id"], "result": {}})

if "STUBBORN" in os.environ:
    time.sleep(1000)
