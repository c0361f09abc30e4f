"""Owns raw messages: what came in, by which way, and the enquiry each began or belongs to.

Hears nothing yet.
Says enquiry.received, enquiry.followed-up, mail.bounced, mail.auto-replied, mail.held.
"""
