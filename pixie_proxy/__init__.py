"""A self-hosted proxy for the OpenAI Images API that keeps every image."""

__version__ = "0.1.0"
