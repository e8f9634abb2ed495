set -eu
/usr/bin/python3 -c 'import asyncio
async def f():
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await p.communicate(b"x"))[0] == b"x"
asyncio.run(f())'
