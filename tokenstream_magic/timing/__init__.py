"""What was stamped (``timeline``) and what follows from it (``metrics``)."""
