"""Public data sets from the network, on the user's word alone: nothing else here downloads."""
