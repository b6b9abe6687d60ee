"""Long answers as jobs: records and queue in a Redis or Valkey, light workers that ask the server over HTTP."""
