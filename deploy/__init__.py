"""How the service gets to AWS: building artifacts, deciding what to deliver, delivering it, trying it."""
