"""Owns every mail that leaves: what was written to whom, and whether it arrived.

Hears enquiry.received, enquiry.routed, enquiry.held, case.accepted, offer.ended, session.booked, mentoring.held, case.followed-up, mail.held, mail.bounced, mail.auto-replied.
Says nothing yet.
"""
