"""Admission: whether a call may run, decided before it costs anything, in one transaction."""
