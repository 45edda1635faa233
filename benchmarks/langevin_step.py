"""What a Langevin step costs: as shipped, the plain gradient, and the machine's matrix product.

    python benchmarks/langevin_step.py
    python benchmarks/langevin_step.py --backend=tensorflow --network=base

The plain gradient is that of the network as it is; a step is of the descriptor, which computes wide
kernels by their spectra. Everything that a row compares is measured in turns in the same process;
the table gives medians and, in brackets, the smallest and the largest. Its last rows are a whole
training iteration of the paper's network at the original code's settings (20 observed, 25 chains,
20 steps), with direct convolutions and by spectra, and what it is made of.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

CHAINS, OBSERVED, STEPS = 25, 20, 20


def medians(functions, rounds):
    """Seconds of each function, measured in turns: name to sorted list."""
    for function in functions.values():
        function()
    taken = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - started)
    return {name: sorted(seconds) for name, seconds in taken.items()}


def show(seconds, per=1.0):
    low, middle, high = (1000 * seconds[i] / per for i in (0, len(seconds) // 2, -1))
    return f"{middle:.1f} ms [{low:.1f}, {high:.1f}]"


def middle(seconds):
    return seconds[len(seconds) // 2]


def gradient_flops(network):
    """Floating-point operations of f and ∂f/∂Y for one shape: two products of each weight."""
    import numpy as np

    total = 0
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        shared = len(kernel.shape) - 1 if "conv" in type(layer).__name__.lower() else 1
        places = np.prod([side for side in layer.output.shape[1:-1]]) if shared else 1
        total += 2 * 2 * int(places) * int(np.prod(kernel.shape))
    return total


def measure(name, rounds, iteration):
    import keras
    import numpy as np
    from keras import ops

    from descnet3d.energy import backend
    from descnet3d.energy.settings import ChainSettings, LangevinSettings, MaximumLikelihood
    from descnet3d.models import networks
    from descnet3d.models.descriptor import DescriptorNet

    keras.utils.set_random_seed(0)
    model = DescriptorNet(networks.build(name))
    generator = np.random.default_rng(0)
    start = 0.5 * generator.standard_normal((CHAINS, 32, 32, 32, 1)).astype("float32")
    start = ops.convert_to_tensor(start)
    square = ops.convert_to_tensor(generator.standard_normal((4096, 4096)).astype("float32"))

    def wait(tensor):
        ops.convert_to_numpy(tensor).ravel()[0]

    def gradient_of(score):
        return backend.compiled(
            lambda positions: backend.value_and_input_gradient(score, positions)[1]
        )

    direct_gradient = gradient_of(
        lambda positions: ops.reshape(model.network(positions, training=False), (-1,))
    )
    score_gradient = gradient_of(model.score_of)
    product = backend.compiled(ops.matmul)
    steps_of_run = 10 if name == "base" else 3
    noisy = LangevinSettings(num_steps=steps_of_run, step_size=0.05)
    silent = LangevinSettings(num_steps=steps_of_run, step_size=0.05, temperature=0.0)

    def plain_gradients():
        for _ in range(steps_of_run):
            wait(direct_gradient(start))

    taken = medians(
        {
            "product": lambda: wait(product(square, square)),
            "plain": plain_gradients,
            "noisy": lambda: wait(model.sampler.run(start, noisy)[0]),
            "silent": lambda: wait(model.sampler.run(start, silent)[0]),
        },
        rounds,
    )
    flops = CHAINS * gradient_flops(model.network)
    rate = flops / (middle(taken["plain"]) / steps_of_run) / 1e9
    peak = 2 * 4096**3 / middle(taken["product"]) / 1e9
    plain = middle(taken["plain"])
    cells = [
        keras.backend.backend(),
        name,
        show(taken["plain"], steps_of_run),
        show(taken["silent"], steps_of_run),
        f"{plain / middle(taken['silent']):.3f}",
        show(taken["noisy"], steps_of_run),
        f"{plain / middle(taken['noisy']):.3f}",
        f"{rate:.0f}",
        f"{peak:.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    if name != "paper" or not iteration:
        return
    observed = (generator.random((OBSERVED, 32, 32, 32)) < 0.08).astype("float32")
    direct = DescriptorNet(networks.build(name))
    direct._score = direct.network
    for each in (model, direct):
        each.compile(
            keras.optimizers.Adam(1e-5),
            likelihood=MaximumLikelihood(
                langevin=LangevinSettings(num_steps=STEPS),
                chains=ChainSettings(per_step=CHAINS, count=CHAINS),
            ),
        )
        each.fit(observed, batch_size=OBSERVED, epochs=1, verbose=0)
    positions = model.to_model_space(observed)

    def weight_gradients():
        def gap():
            return ops.mean(model.score_of(start)) - ops.mean(model.score_of(positions)), 0

        return backend.gradients(gap, model.trainable_variables)[1]

    weights = backend.compiled(weight_gradients)

    def steps():
        for _ in range(STEPS):
            wait(score_gradient(start))

    taken = medians(
        {
            "direct": lambda: direct.train_on_batch(observed),
            "iteration": lambda: model.train_on_batch(observed),
            "steps": steps,
            "weights": lambda: wait(weights()[0]),
        },
        2,
    )
    share = (middle(taken["steps"]) + middle(taken["weights"])) / middle(taken["iteration"])
    print(
        f"| {keras.backend.backend()} | iteration, direct {show(taken['direct'])} "
        f"| by spectra {show(taken['iteration'])} "
        f"| {STEPS} gradients {show(taken['steps'])} "
        f"| weight gradients {show(taken['weights'])} | share {share:.3f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", action="append", choices=("tensorflow", "torch"))
    parser.add_argument("--network", action="append", choices=("paper", "base"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no_iteration", action="store_true", help="leave the last rows out")
    options = parser.parse_args()
    if "DESCNET3D_BENCHMARK" in os.environ:
        measure(options.network[0], options.rounds, not options.no_iteration)
        return
    print(
        "| backend | network | plain gradient | step, no noise | speed | step | speed "
        "| GFLOP/s | product GFLOP/s |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for backend in options.backend or ("tensorflow", "torch"):
        for network in options.network or ("base", "paper"):
            environment = {
                **os.environ,
                "KERAS_BACKEND": backend,
                "DESCNET3D_BENCHMARK": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
            command = [sys.executable, __file__, f"--network={network}"]
            command.append(f"--rounds={options.rounds}")
            if options.no_iteration:
                command.append("--no_iteration")
            subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
