from tests.audit.conftest import house

__all__ = ["house"]
