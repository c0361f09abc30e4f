import asyncio
async def test_x(): print(type(asyncio.get_running_loop())); assert "uvloop" in repr(type(asyncio.get_running_loop()))
