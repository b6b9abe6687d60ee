"""The proof chain: base, adapter, merged, every variant and the running server asked the same, link by link."""
