"""What runs a network: a batch of pictures to its raw output, NumPy arrays in and out.

Must not know bundles, catalogues or files. Only `torch_engine` imports torch, and only when it is used.

Public: `choice.choose`, `choice.ENGINES`, `runtime.OnnxEngine`, `vino.OpenVinoEngine`, `torch_engine.TorchEngine`,
`graph.with_weights`, `answers.fraction`.
"""
