"""What an order comes to: the reply, the outcome record, and the order in which the broker gets them."""
