"""Owns raw messages: what came in, by which way, and the enquiry each began.

Hears nothing yet.
Says enquiry.received.
"""
