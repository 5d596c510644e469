"""A typical answer, as a dictionary for packing answers. It halves a record, and the time to pack it.

Answers packed with it can only be read with it, so it must never change. Unlike answers are packed too, but into more
bytes. Sources: RFC 8878, 5 (a raw content dictionary); RFC 1950, 2.2, FDICT.
"""

from __future__ import annotations

ANSWER = (
    b'{"id":"000000000000000000000000","model":"spiking-mha","model_version":"1.0.1","engine":"native"'
    b',"prediction":9,"confidence":0.9999103207604487,"class_probabilities":[7.807702170747676e-09,1.3'
    b"87323189754419e-09,1.9979249288795666e-07,1.7485760080365677e-08,6.018644332282938e-05,1.1560380"
    b"106409602e-08,2.639218432284022e-10,1.968293806387793e-05,9.571560584213535e-06,0.99991032076044"
    b'87],"spike_counts":{"input":81,"layers":{"stem1":309,"stem2":370,"block1.attention_in":148,"bloc'
    b'k1.query":57,"block1.key":76,"block1.value":55,"block1.attention":18,"block1.mlp_in":115,"block1'
    b'.mlp_hidden":131,"block2.attention_in":113,"block2.query":88,"block2.key":83,"block2.value":63,"'
    b'block2.attention":18,"block2.mlp_in":187,"block2.mlp_hidden":196,"tokens":315},"output":[0,0,0,0'
    b',0,0,0,0,0,1]},"steps_used":1,"max_steps":8,"stopped_by":"confidence","confidence_threshold":0.9'
    b'84151,"seed":3,"encoder":"bernoulli","synaptic_operations":272463,"synaptic_operations_by_kind":'
    b'{"accumulates":256623,"multiply_accumulates":15840},"timings_ms":{"decode":0.0123,"encode":0.013'
    b'3,"simulate":0.0249}}'
)
