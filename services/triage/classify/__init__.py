"""Reads an enquiry by the programme's rules: what is asked for, what rules it out, and how sure that is."""
