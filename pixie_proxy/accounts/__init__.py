"""Accounts: who people are, and the keys that say so."""
