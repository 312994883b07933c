"""What a device, a cell and a network are: equations and tensors. No files, no wires, no screen."""
