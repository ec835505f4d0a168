"""Networks with a state: recurrent cells, state-space layers."""
