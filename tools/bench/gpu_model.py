"""An analytic model of the CUDA kernels on an H100 SXM, for gpu_predict.py: nothing here was measured on Grapnel.

A kernel takes as long as the slowest of: its multiprocessors' clocks (tiles in whole waves), what goes through L2, and what
goes through memory; plus its start. The launches are those of kernels/gemm and kernels/conv2d.
"""
import dataclasses
import math

SMS, CLOCK = 132, 1755.0  # multiprocessors; MHz held under load (boost is 1980)
MACS = {"fp32": 128, "tf32": 1024, "bf16": 2048}  # a clock and multiprocessor
CEILING = {"tf32": 0.86, "bf16": 0.83}  # of those, what a GEMM of 8192^3 reached: 410 and 791 TFLOP/s
MMA_SYNC = 0.62  # of the tensor cores' rate, which only wgmma reaches
MEMORY, L2 = 3.0e6, 9.0e6  # bytes a microsecond: a measured copy; 5120 bytes a clock, as documented for A100
CACHED = 30e6  # activations of a kernel up to this many bytes are still in the 50 MB L2
SHARED = 128  # bytes of shared memory a clock, read by wgmma or written by copies
START, GAP = 2.0, 1.0  # us: a kernel's start and end; between two kernels of one CUDA graph
# us less of that where launches overlap: two empty kernels were measured 0.96 us closer at 1755 MHz (on GitHub,
# pegainfer-project/pegainfer, issue 569); ours do little before they wait for the one before.
OVERLAP = 0.9
HOST = 5.0  # us of the CPU for one eager launch, with the engine's share
# Instructions of a warp for a step, counted in what nvcc 13.0 makes for sm_90a. By FMAs 16 k, by the tile's rows and columns and
# by how many floats are copied at once; blocks of a tile that fit a multiprocessor. Of issue slots FMAs use 0.9.
SLOTS = {(64, 64, 1): 475, (64, 64, 4): 415, (128, 64, 4): 720, (128, 128, 4): 1195}
RESIDENT = {(64, 64): 2, (128, 64): 1, (128, 128): 1}
# By mma.sync 64 bytes of k, by rows and columns: of operands that lie along k, and of those that lie across. Folding sums counts an
# eighth. A block has four warps.
FRAGMENT_SLOTS = {"tf32": {(64, 64): (169, 236), (128, 64): (249, 316), (128, 128): (294, 419)},
                  "bf16": {(64, 64): (120, 143), (128, 64): (152, 179), (128, 128): (197, 238)}}
USED = 0.8  # of issue slots, and of what mma.sync and shared memory could do, if two blocks or more take turns; one alone two thirds
# On wgmma: of an operand's elements the bytes and the parts, and steps until sums are added to those before. float32 is made of
# products of bfloat16; so is, of two parts, a first convolution's weight gradient in TF32.
WGMMA = {"fp32": (2, 3, 1), "pair": (2, 2, 1), "tf32": (4, 1, 8), "bf16": (2, 1, 8)}
MACS_WGMMA, CEILING_WGMMA = ({**of, "fp32": of["bf16"], "pair": of["bf16"]} for of in (MACS, CEILING))
PASSES, PRECISIONS = ("forward", "dgrad", "wgrad"), ("fp32", "tf32", "bf16")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Kernels, and what stands for others to be compared with."""
    name: str
    wgmma: bool = True
    widths: tuple = (64, 128, 256)  # of tiles with 128 rows
    held: int = 2  # blocks of 64 columns, in one part, that a multiprocessor holds
    together: int = 1  # blocks of a cluster, which fetch one operand once
    ends: int = 3000  # clocks of a tile in which nothing is multiplied: its first copies, its results
    fold: int = 200  # clocks in which sums are added to those before; tiles 256 wide do not
    whole_waves: bool = False  # a long sum is split as suits the multiprocessors, not by the rule of the code
    flat: bool = True  # weight gradients in TF32 of 256 channels lay pixels behind one another first; else operands lie as they come
    any_channels: bool = False  # 3 channels, too, as if they were a whole step
    overlap: float = 0  # us that a launch starts earlier than after the one before


SM_80 = Variant("sm_80", wgmma=False)  # kernels/gemm/tiled.cuh, by FMAs or by the mma.sync of fragments.cuh
HOPPER = Variant("sm_90a", overlap=OVERLAP)  # kernels/gemm/hopper.cuh
CUDNN = Variant("cuDNN-like", widths=(64, 128, 256), held=1, together=2, ends=1500, fold=0, whole_waves=True, flat=False, any_channels=True)


@dataclasses.dataclass(frozen=True)
class Layer:
    kind: str  # conv, max, average, linear
    c: int
    k: int
    size: int = 1  # of the input
    r: int = 1
    stride: int = 1
    residual: bool = False

    @property
    def out(self):
        return 1 if self.kind == "average" else (self.size - 1) // self.stride + 1

    def macs(self, batch=1):
        return batch * self.out ** 2 * self.k * self.c * self.r ** 2 if self.kind in ("conv", "linear") else 0

    def __str__(self):
        return {"conv": f"{self.c} to {self.k} @ {self.size}, {self.r}x{self.r}" + (" stride 2" if self.stride > 1 else ""),
                "max": f"max pool @ {self.size}", "average": "average pool", "linear": f"linear {self.c} to {self.k}"}[self.kind]


def resnet(blocks):
    layers, c, size = [Layer("conv", 3, 64, 224, 7, 2), Layer("max", 64, 64, 112, 3, 2)], 64, 56
    for stage, count in enumerate(blocks):
        k = 64 << stage
        for block in range(count):
            stride = 2 if block == 0 and stage else 1
            layers.append(Layer("conv", c, k, size, 3, stride))
            if stride == 2:
                layers.append(Layer("conv", c, k, size, 1, 2))
            size //= stride
            layers.append(Layer("conv", k, k, size, 3, 1, True))
            c = k
    return layers + [Layer("average", 512, 512, 7), Layer("linear", 512, 1000)]


def vgg():
    layers, c, size = [], 3, 224
    for k, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.append(Layer("conv", c, k, size, 3))
            c = k
        layers.append(Layer("max", c, c, size, 2, 2))
        size //= 2
    return layers + [Layer("linear", 25088, 4096), Layer("linear", 4096, 4096), Layer("linear", 4096, 1000)]


NETS = {"resnet18": resnet((2, 2, 2, 2)), "resnet34": resnet((3, 4, 6, 3)), "vgg16": vgg()}


def up(a, b):
    return -(-a // b)


def stream(bytes_moved):
    """A kernel that only reads and writes."""
    return START + bytes_moved / (L2 / 2 if bytes_moved <= CACHED else MEMORY)


def run_split(blocks, splits, clocks, through_l2, weights, activations, sums, result):
    """Times of the product's kernel and, if its sums are split, of the one that adds them and writes `result` bytes."""
    partial = 4 * sums * splits if splits > 1 else 0
    memory = weights + (activations if activations > CACHED else 0)
    product = START + max(up(blocks, SMS) * clocks / CLOCK, (through_l2 + partial) / L2, memory / MEMORY)
    return [product, stream(partial + result)] if splits > 1 else [product]


def by_fmas(m, n, k, width, wide, weights, activations, result):
    """run_float_product"""
    large = width == 4 and m > 64 and n > wide // 2 and up(m, 128) * up(n, wide) >= 128
    rows, columns = (128, wide) if large else (64, 64)
    tiles = up(m, rows) * up(n, columns)
    splits = min(max((255 + tiles) // tiles, up(k, 8192)), max(1, k // 128))
    steps, blocks = up(up(k, splits), 16), tiles * splits
    resident = min(RESIDENT[rows, columns], up(blocks, SMS))
    # Eight warps, two to a scheduler.
    clocks = 2 * SLOTS[rows, columns, width] / 0.9
    return run_split(blocks, splits, steps * clocks + 3000 / resident, blocks * steps * 64 * (rows + columns), weights, activations, m * n, result)


def fragment_tiling(m, n, k, depth):
    """The rule of fragments.cuh: rows, columns and splits."""
    steps, best = up(k, depth), None
    for rows, columns, step in ((128, 128, 8), (128, 64, 5), (64, 64, 3)):
        most = max(steps // 4, 1)
        first = min(max(up(k, 8192), 1), most) if rows == 128 else 1
        for splits in range(first, min(most, first + 127) + 1):
            blocks = up(m, rows) * up(n, columns) * splits
            each = up(blocks, 128)
            cost = max(2 * each, 3) * (up(steps, splits) + 1) * step + (2 * (80 + each * rows * columns // 320) if splits > 1 else 0)
            if best is None or cost < best[0]:
                best = cost, rows, columns, splits
    return best[1:]


def by_fragments(precision, m, n, k, across, weights, activations, result):
    """run_fragment_product: a step takes as long as the slowest of instructions (four warps, one to a scheduler), mma.sync, and
    shared memory, which copies write once and two warps read."""
    depth = 64 // WGMMA[precision][0]
    rows, columns, splits = fragment_tiling(m, n, k, depth)
    blocks, steps = up(m, rows) * up(n, columns) * splits, up(up(k, depth), splits)
    clocks = max(FRAGMENT_SLOTS[precision][rows, columns][across], rows * columns * depth / MACS[precision] / MMA_SYNC,
                 (rows + columns) * 64 * 3 / SHARED) / USED
    each = up(blocks, SMS)
    resident = min(3 if rows * columns < 128 * 128 else 2, each)
    return run_split(blocks, splits, (steps * clocks + 3000 / resident) * (1.5 if each == 1 else 1), blocks * steps * 64 * (rows + columns),
                     weights, activations, m * n, result)


def tiling_for(precision, m, n, steps):
    """The rule of hopper.cuh: width and splits."""
    size, parts, together = WGMMA[precision]
    products = parts * (parts + 1) // 2
    rate = 465 if precision == "tf32" else 482
    most = min(max(steps // max(1, 2 * size // products), 1), 128)
    best = None
    for width in (64, 128, 256):
        if (n > 64 if width == 64 else n <= width // 2) or width == 256 and parts > 1:
            continue
        tiles = up(m, 128) * up(n, width)
        step = max(products * width * rate // 100, 2 * products * (64 + width) + parts * (128 + width)) + (200 // together if width < 256 else 0)
        for splits in range(max(up(steps, 512), 1) if width == 256 else 1, most + 1):
            each = up(tiles * splits, 132)
            held = min(each, HOPPER.held if width == 64 and parts == 1 else 1)
            left = 4 * m * n * splits if splits > 1 else 0
            cost = max(each * (up(steps, splits) * step + 3000 // held), (tiles * steps * 128 * parts * (128 + width) + left) // 5128)
            if splits > 1:
                moved = left + 4 * m * n
                cost += 3686 + moved // (2564 if moved <= 30_000_000 else 1709)
            if best is None or cost < best[0]:
                best = cost, width, splits
    return best[1:]


def on_wgmma(variant, precision, m, n, taps, c, weights, activations, result, half=False):
    """run_hopper_product as the code tiles it, or in the best of all ways. `half`: TF32 wants its operands along k, so its weight
    gradient has half the rate."""
    size, parts, together = WGMMA[precision]
    products = parts * (parts + 1) // 2
    steps = taps * up(c * size, 128)
    fits = [w for w in variant.widths if w == 64 and n <= 64 or w == 128 and n > 64 or w == 256 and n > 128 and parts == 1]
    most = max(1, steps // max(1, 2 * size // products))
    cases = [(w, splits) for w in fits for splits in range(1, min(most, 128) + 1)] if variant.whole_waves else [tiling_for(precision, m, n, steps)]
    best = None
    for width, splits in cases:
        tiles = up(m, 128) * up(n, width)
        multiply = products * 128 * width * (128 // size) / MACS_WGMMA[precision] / CEILING_WGMMA[precision] * (2 if half else 1)
        # Two warpgroups, 4 times a product, read 64 rows and all columns of 32 bytes; copies write a stage.
        shared = (products * 8 * 32 * (64 + width) + parts * 128 * (128 + width)) / SHARED
        fetched = parts * tiles * steps * 128 * (128 + width) * (1 + 1 / variant.together) / 2
        fold = variant.fold / together if width < 256 else 0
        held = min(up(tiles * splits, SMS), variant.held if width == 64 and parts == 1 else 1)
        clocks = up(steps, splits) * (max(multiply, shared) + fold) + variant.ends / held
        times = run_split(tiles * splits, splits, clocks, fetched, weights, activations, m * n, result)
        best = times if best is None or sum(times) < sum(best) else best
    return best


def bytes_of(precision):
    """Of an element of an activation in memory."""
    return 2 if precision == "bf16" else 4


def stem(variant, precision, layer, batch, which, more):
    """hopper_stem.cuh: x is laid out, and dy for a weight gradient is converted, then they are multiplied."""
    way = "pair" if precision == "tf32" and which == "wgrad" else precision
    size, parts, _ = WGMMA[way]
    widest = 16 if parts == 1 else max(128 // layer.r // 16 * 16, 16)
    rows = min(layer.r, max(widest // size // layer.c, 1))
    pixel = up(rows * layer.c * size, 16) * 16
    segments = up(layer.r, rows) * up(layer.r * pixel, 128)
    laid = parts * batch * ((layer.out - 1 + up(layer.r, layer.stride)) * layer.stride) ** 2 * pixel
    stored = bytes_of(precision)
    x, y = 4 * batch * layer.size ** 2 * layer.c, stored * batch * layer.out ** 2 * layer.k
    w = 4 * layer.r ** 2 * layer.c * layer.k
    pixels = 64 if which == "wgrad" else 128  # of a tile
    tiles = batch * min(up(layer.out, wide) * up(layer.out, pixels // wide) for wide in (8, 16, 32, 64, 128) if wide <= pixels)
    if which == "forward":
        weights = 128 * parts * segments * layer.k
        return [stream(x + laid)] + on_wgmma(variant, way, tiles * pixels, layer.k, segments, 1, weights, laid + y + more, y)
    dy = parts * size * batch * layer.out ** 2 * layer.k
    # In bf16 the picture is converted first, otherwise dy.
    times = [stream(1.5 * x), stream(x / 2 + laid)] if stored == 2 else [stream(x + laid), stream(y + dy)]
    return times + on_wgmma(variant, way, segments * 128 // size, layer.k, tiles, 1, w, laid + dy + more, w)


def conv(variant, precision, layer, batch, which="forward", more=0, given=False, kept=1):
    """The kernels of one pass of a convolution or linear layer; `more` bytes are read or written by its epilogue. `given`: its
    input is there as the operand that it multiplies; so is dy for a weight gradient, after the input's. `kept`: the share of its
    result that the kernel writes that adds up what was split."""
    size = bytes_of(precision) if layer.kind == "conv" or variant.any_channels else 4
    if layer.kind == "conv" and layer.c <= 4 and which != "dgrad" and variant.wgmma and not variant.any_channels:
        return stem(variant, precision, layer, batch, which, more)
    before = []
    pixels_in, pixels_out, taps = batch * layer.size ** 2, batch * layer.out ** 2, layer.r ** 2
    x, y, w = size * pixels_in * layer.c, size * pixels_out * layer.k, size * taps * layer.c * layer.k
    m, n, c, read = {"forward": (pixels_out, layer.k, layer.c, x), "dgrad": (pixels_in, layer.c, layer.k, y),
                     "wgrad": (layer.k, taps * layer.c, pixels_out, x + y)}[which]
    result = {"forward": y * kept, "dgrad": x, "wgrad": 4 * taps * layer.c * layer.k}[which]
    linear, strided = layer.kind == "linear", layer.stride > 1 and which == "dgrad"
    if linear and which == "forward" and batch <= 8:
        return [stream(x + y + (w if precision == "fp32" else w / 2))]  # thin.cuh
    fits = (c >= (16 if precision == "tf32" else 32) and n >= 32 or variant.any_channels)
    if variant.flat and which == "wgrad":
        fits = not linear and layer.c >= 32 and layer.k >= 64 and (precision != "tf32" or layer.c >= 256 and layer.stride == 1)
    if variant.flat and linear and which == "dgrad":
        fits = False
    if linear:
        fits = fits and m >= 64 and n >= 64
    if strided:  # by phases, a launch each
        before += [START] * (layer.stride ** 2 - 1)
        taps = math.ceil(taps / layer.stride ** 2)
    if not (fits and variant.wgmma):
        if precision == "fp32":
            k, wide = (pixels_out, 128 if linear else 64) if which == "wgrad" else (taps * c, 128)
            return before + by_fmas(m, n, k, 4 if layer.c % 4 == 0 else 1, wide, w, x + y + more, result)
        element = WGMMA[precision][0]
        padded = up(layer.c, 16 // element) * 16 // element
        of_x, of_y = element * pixels_in * padded, element * pixels_out * layer.k  # as operands
        if not given and which != "dgrad" and of_x != x:
            before.append(stream(x + of_x))
        if which == "dgrad" and of_y != y:
            before.append(stream(y + of_y))
        if linear and which == "dgrad" and element < size:
            before.append(stream(1.5 * w))
        c = padded if which == "forward" else c
        k, n = (pixels_out, taps * padded) if which == "wgrad" else (taps * c, n)
        moved = {"forward": of_x + y, "dgrad": x + of_y, "wgrad": of_x + of_y}[which] + more
        return before + by_fragments(precision, m, n, k, which == "wgrad" or linear and which == "dgrad", w * element / size, moved, result)
    if variant.flat and which == "wgrad" and precision == "tf32":
        flat = batch * (layer.out + (layer.r > 1)) ** 2
        laid = [stream(y + 4 * flat * layer.k), stream(x + 4 * flat * layer.c)]
        return laid + on_wgmma(variant, precision, m, taps * up(layer.c, 128) * 128, 1, flat, w, 4 * flat * (layer.k + layer.c), result)
    if WGMMA[precision][0] * WGMMA[precision][1] != size:
        copied = WGMMA[precision][0] * WGMMA[precision][1] / 4
        if not given:
            before.append(stream((1 + copied) * (x if which == "wgrad" else read)))
        x, y, w = x * copied if which != "dgrad" else x, y * copied if which == "dgrad" else y, w * copied
    if which == "wgrad":
        n = taps * up(layer.c, 64) * 64 if variant.flat else n
        return before + on_wgmma(variant, precision, m, n, 1, c, w, x + y + more, result, half=precision == "tf32")
    return before + on_wgmma(variant, precision, m, n, taps, c, w, x + y + more, result)


def parts_left(variant, precision, layer, batch):
    """Bytes that a convolution writes besides its result, for the next one."""
    leaves = layer.kind == "conv" and variant.wgmma and precision == "fp32"
    return batch * layer.out ** 2 * layer.k * WGMMA[precision][0] * WGMMA[precision][1] if leaves else 0


def is_split(variant, precision, layer, batch):
    """Whether blocks share the sums of a forward convolution: then batch norm reads its result again, and max pooling does not."""
    pixels, taps = batch * layer.out ** 2, layer.r ** 2
    if not variant.wgmma:
        return precision != "fp32" and fragment_tiling(pixels, layer.k, taps * layer.c, 64 // WGMMA[precision][0])[2] > 1
    return layer.c > 4 and tiling_for(precision, pixels, layer.k, taps * up(layer.c * WGMMA[precision][0], 128))[1] > 1


def pools(variant, precision, layer, after, batch):
    """Whether the kernel that adds up a convolution's sums makes the max pooling behind it, too."""
    return (layer.kind == "conv" and after is not None and after.kind == "max" and after.r <= after.stride and
            is_split(variant, precision, layer, batch))


def infer(variant, precision, net, batch):
    """[(layer, times of its kernels)]"""
    size = bytes_of(precision)
    result, last = [], None
    for layer, after in zip(NETS[net], [*NETS[net][1:], None]):
        y = size * batch * layer.out ** 2 * layer.k
        if layer.kind in ("conv", "linear"):
            pooled = pools(variant, precision, layer, after, batch)
            left = 0 if after is not None and after.kind == "max" else parts_left(variant, precision, layer, batch)
            more = (y if layer.residual else 0) + left
            times = conv(variant, precision, layer, batch, more=more, given=last == "parts", kept=1 / after.stride ** 2 if pooled else 1)
            if net == "vgg16" and layer.c == 25088:  # channels before pixels
                times = [stream((size + 4) * batch * layer.c), *times]
            last = "pooled" if pooled else "parts" if left else layer.kind
        else:
            times = [] if last == "pooled" else [stream(y + size * batch * layer.size ** 2 * layer.c)]
            last = layer.kind
        result.append((layer, times))
    return result


def step(variant, precision, net, batch):
    """{pass: times} of forward, backward and SGD with momentum. ReLU's mask goes with an input gradient; where a shortcut ends,
    gradients are added and masked in passes of their own."""
    times = {name: [] for name in (*PASSES, "batch norm", "pools, additions", "weights packed", "SGD")}
    for i, layer in enumerate(NETS[net]):
        size = 4 if layer.kind == "linear" else bytes_of(precision)
        x, y = (size * batch * s ** 2 * c for s, c in ((layer.size, layer.c), (layer.out, layer.k)))
        if layer.kind not in ("conv", "linear"):
            times["pools, additions"] += [stream(x + 1.25 * y), stream(x + 1.25 * y)]
            continue
        w = 4 * layer.r ** 2 * layer.c * layer.k
        for which in PASSES:
            if i or which != "dgrad":
                times[which] += conv(variant, precision, layer, batch, which)
        times["SGD"] += [stream(5 * w)]
        if layer.kind == "conv":
            times["weights packed"] += [stream(2 * w)] * (2 if i else 1)
        elif precision != "tf32":
            times["weights packed"] += [stream((1 + WGMMA[precision][0] * WGMMA[precision][1] / 4) * w)]
        if layer.kind == "conv" and net != "vgg16":
            small = stream(100 * layer.k)
            # moments, running averages, scale and shift, the map; dots, factors, the blend; SGD of weight and bias
            # Where a convolution leaves its sums, of pieces of 32 rows or more.
            moments = stream(y) if is_split(variant, precision, layer, batch) else stream(y / size / 4)
            times["batch norm"] += [moments, small, small, small, small, stream(2 * y + (y if layer.residual else 0))]
            times["batch norm"] += [stream(2 * y), small, small, stream(3 * y)]
            times["SGD"] += [small, small]
        else:
            times["pools, additions"] += [stream(y)]  # the bias's gradient
            times["SGD"] += [START]
        if layer.residual:
            times["pools, additions"] += [stream(3 * y), stream(3 * y)]
    return times


def totals(variant, kernels):
    """(eager, one graph) in ms."""
    device = sum(kernels) + (GAP - variant.overlap) * len(kernels)
    return max(device, HOST * len(kernels)) / 1e3, device / 1e3


def predicted_ms(variant, precision, net, task, batch):
    """(eager, one graph)"""
    if task == "train":
        return totals(variant, sum(step(variant, precision, net, batch).values(), []))
    kernels = [t for _, times in infer(variant, precision, net, batch) for t in times]
    if task == "gradcam":  # back to the last convolution's activation, and the map
        kernels += [START] * 12
    return totals(variant, kernels)
