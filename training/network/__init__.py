"""The networks: the spiking transformer, its neurons, and the conventional networks that it is compared with."""
