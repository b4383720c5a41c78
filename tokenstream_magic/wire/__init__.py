"""Bytes to events and back: no clock, no I/O, no Jupyter.

``framing`` cuts reads into frames, one module a protocol turns frames into ``events``, and each protocol's
verdict says how the stream ended.
"""
