"""Who is calling: identity headers, bearer tokens and the keys that check them."""
