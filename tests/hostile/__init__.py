"""Peers who mean harm: what they send is refused, costs little, and nobody beside them notices."""
