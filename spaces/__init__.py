"""What may be updated: traces, policies, spaces, named methods and the layers that make a policy train."""
