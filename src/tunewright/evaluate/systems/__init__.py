"""Every kind of system behind one interface: base, adapter, merged, quantized, an endpoint; with answers on disk."""
