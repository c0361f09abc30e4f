"""Owns mentors' time: who meets whom, and when.

Hears mentoring.requested.
Says session.booked, mentoring.held.
"""
