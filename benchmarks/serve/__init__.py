"""The bench `serve`: what the server does under load, under faults and under attack, one module per thing measured."""
