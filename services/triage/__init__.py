"""Owns cases: the stream, the areas and the partner of each enquiry, and why; and the streams' money.

Hears enquiry.received, enquiry.followed-up, case.accepted.
Says enquiry.routed, enquiry.held, case.accepted, offer.ended, mentoring.requested, case.followed-up.
"""
