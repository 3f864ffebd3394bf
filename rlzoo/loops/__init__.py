"""How a run goes on: environments and an agent, stepped together; and how it is judged."""
