"""An upstream without a key: it speaks OpenAI's Images API and draws its pictures by rules.

For `pixie demo`, for tests, and for whoever wants to see the proxy before paying for a picture. From outside only the
pictures differ from the real service: each bears its prompt, the word DEMO, and a note in its file.
"""

from pixie_proxy.upstream.demo.server import create_demo_app, demo_upstream

__all__ = ["create_demo_app", "demo_upstream"]
