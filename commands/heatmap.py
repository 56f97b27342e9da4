"""``heatmap``: what speaks for a class, by place."""

from __future__ import annotations

from typing import Any

from commands import common


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "heatmap",
        heatmap,
        "where in the picture the evidence for a class lies",
        "What speaks for a class, by place: in words, as a figure with its scale (.png), as raw numbers\n"
        "(.npz, for numpy.load).\n\n"
        "  python -m vizcore heatmap cat.jpg\n"
        "  python -m vizcore heatmap cat.jpg --method occlusion --class tabby -o cat.png -o cat.npz\n"
        "  python -m vizcore heatmap cat.jpg --model weights.safetensors --architecture resnet18 -o cat.png",
    )
    common.add_photo(parser)
    common.add_model(parser)
    common.add_class(parser)
    parser.add_argument("--method", default="grad_cam", help="A name that `methods` lists. Default: %(default)s")
    common.add_layer(parser, "Layer of the CAM methods, by its dotted name. Default: the advised one")
    common.add_view(parser)
    common.add_output(parser, ".png", ".npz")


def heatmap(asked: Any) -> None:
    """What ``heatmap`` does."""
    from vizcore.export import to_npz
    from vizcore.figures import heatmap_figure
    from vizcore.heatmaps import heatmap as compute
    from vizcore.heatmaps import quantity_of, title_of, usual_options
    from vizcore.images import prepare
    from vizcore.records import BadParameter
    from vizcore.report import share_outside
    from vizcore.warp import by_place
    from vizcore.words import describe

    common.check_output(asked)
    common.check_methods(asked, [asked.method])
    model, photo = common.load(asked), common.open_photo(asked.photo)
    logits = common.logits_of(model, photo)
    targets = asked.classes or [int(logits.argmax())]
    if len(targets) > 1:
        raise BadParameter("--class is given several times; a heatmap is that of one. `report` takes several.")
    target = common.find_class(model, targets[0])
    view = prepare(photo.pixels, model)
    options = usual_options(model, asked.method)
    with common.progress_bar(asked.method) as progress:
        heat = compute(
            model,
            view.pixels,
            target,
            asked.method,
            asked.layer,
            view=asked.view or common.VIEWS[0],
            progress=progress,
            **options,
        )
    placed, name = by_place(model, view.pixels, heat), common.name_of(asked.photo)
    for path in asked.output:
        if path.suffix.lower() == ".npz":
            common.write(path, to_npz(heat, picture=name, digest=photo.digest))
        else:
            common.write(path, heatmap_figure(heat, placed, photo.pixels, view.box, model, name))
    common.print_classes(model, logits)
    print(f"{title_of(heat)} of {model.labels[target]}: {describe(placed, quantity_of(heat))}")
    for sentence in (*heat.notes, share_outside(photo.pixels, view.box)):
        if sentence:
            print(sentence)
