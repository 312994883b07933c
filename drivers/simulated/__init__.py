"""The far end of the wires: instrument servers, a controller board and a chip that share one physical world."""
