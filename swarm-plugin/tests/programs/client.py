"""An MCP client that tells what it sees, a line of JSON each, on standard error.

Without an argument it speaks over its own standard streams, else to the address that it is given.
"""

import asyncio, json, os, sys, time
from mcp import Client
from mcp.server.stdio import stdio_server


def tell(**what):
    print(json.dumps(what), file=sys.stderr, flush=True)


def shown(result):
    text = [block.text for block in result.content if block.type == "text"]
    return {"error": bool(result.is_error), "structured": result.structured_content, "text": text}


async def look(client, changed):
    tools = (await client.list_tools()).tools
    tell(version=client.session.protocol_version, tools={tool.name: tool.input_schema for tool in tools})
    tell(words=shown(await client.call_tool("words", {"text": "a b c"})))
    tell(invalid=shown(await client.call_tool("words", {"txt": 1})))
    try:
        tell(unknown=shown(await client.call_tool("secret", {})))
    except Exception as error:
        tell(unknown=str(error))

    told = []

    async def hear(done, total, message):
        told.append(done)

    await client.call_tool("steps", {}, progress_callback=hear)
    tell(progress=told)
    try:
        await asyncio.wait_for(client.call_tool("wait", {}), 0.5)
    except (asyncio.TimeoutError, TimeoutError):
        tell(cancelled=True)
    tell(ready=True)
    while True:
        await changed()
        tools = (await client.list_tools()).tools
        if any(tool.name == "second" for tool in tools):
            break
    answer = shown(await client.call_tool("second", {"text": "a b"}))
    tell(second=answer, at=time.time())


async def main():
    heard = asyncio.Event()

    async def handle(message):
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            heard.set()

    async def wait():
        await heard.wait()
        heard.clear()

    address = sys.argv[1] if len(sys.argv) > 1 else stdio_server()
    mode = sys.argv[2] if len(sys.argv) > 2 else "legacy"
    async with Client(address, mode=mode, message_handler=handle, cache=None) as client:
        if mode == "legacy":
            await look(client, wait)
            if len(sys.argv) == 1:
                # Its standard input would be read until the server closes it.
                os._exit(0)
        else:
            async with client.listen(tools_list_changed=True) as changes:
                await look(client, changes.__anext__)


asyncio.run(main())
