"""Requests out, stamped reads in. Knows HTTP and the clock, no protocol.

``loop`` is the one thread all streams live on, ``network`` stamps what arrives, ``http`` opens an exchange.
"""
