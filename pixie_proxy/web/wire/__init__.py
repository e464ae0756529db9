"""Our JSON on the wire: the only place that spells its fields."""
