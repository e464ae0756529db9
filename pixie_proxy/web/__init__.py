"""The web: aiohttp requests in, data classes out. `routes` lists every address with who may use it."""
