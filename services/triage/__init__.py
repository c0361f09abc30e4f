"""Owns cases: the stream, the areas and the partner of each enquiry, and why.

Hears enquiry.received.
Says enquiry.routed, enquiry.held, mentoring.requested.
"""
