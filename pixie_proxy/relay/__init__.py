"""The relay: one paid call from what the client asked to what it gets, while every image is lifted out.

`request` says what is asked, `capture` (with `b64scan` and `sse`) reads the answer, `pump` moves it, `feed` carries it
to the client at the client's pace.
"""
