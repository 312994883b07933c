"""What is on a wire: instruments (PyVISA), controller boards (pyserial), the chip as seen through them."""
