"""Proof from outside: brokers are killed again and again, and ledgers of their clients say whether they kept faith."""
