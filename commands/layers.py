"""``layers``: every layer with its shape and size; or the maps of one."""

from __future__ import annotations

from typing import Any

from commands import common


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "layers",
        layers,
        "every layer with its shape and size; or the maps of one",
        "Without a photo: a table of the layers, as text or as .csv. With one: the activation maps of a\n"
        "layer, strongest first, as one sheet (.png) or as raw numbers (.npz).\n\n"
        "  python -m vizcore layers --model resnet18 --untrained\n"
        "  python -m vizcore layers -o layers.csv\n"
        "  python -m vizcore layers cat.jpg --layer blocks.2 -o maps.png",
    )
    parser.add_argument("photo", nargs="?", help="A picture file: JPEG, PNG, WebP, GIF, BMP or TIFF")
    common.add_model(parser)
    common.add_layer(parser, "Whose maps, by its dotted name. Default: the one that Grad-CAM reads")
    common.add_output(parser, ".png", ".npz", ".csv")


def layers(asked: Any) -> None:
    """What ``layers`` does."""
    from vizcore.records import BadParameter

    common.check_output(asked)
    if asked.photo is None:
        if asked.layer or any(path.suffix.lower() != ".csv" for path in asked.output):
            raise BadParameter("Maps are those of a photo: give one before the options. Without one, -o takes a .csv.")
        _layer_table(asked)
        return
    if any(path.suffix.lower() == ".csv" for path in asked.output):
        raise BadParameter("A .csv is the table of all layers, which takes no photo. Maps are a .png or a .npz.")
    _layer_maps(asked)


def _layer_table(asked: Any) -> None:
    from vizcore.anatomy import anatomy, to_csv

    facts = anatomy(common.load(asked))
    for path in asked.output:
        common.write(path, to_csv(facts).encode())
    if not asked.output:
        rows = [("layer", "kind", "output", "parameters", "multiply-adds", "sees")]
        for layer in facts.layers:
            shape = " × ".join(map(str, layer.shape))
            sees = " × ".join(map(str, layer.receptive_field)) if layer.known else ""
            rows.append((layer.title, layer.kind, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}", sees))
        common.print_table(rows, right=(3, 4))


def _layer_maps(asked: Any) -> None:
    import numpy as np

    from vizcore.activations import activation_maps
    from vizcore.colour import Scale
    from vizcore.export import to_figure, to_npz
    from vizcore.images import montage, prepare

    model, photo = common.load(asked), common.open_photo(asked.photo)
    layer = asked.layer or model.layers["cam"]
    maps = activation_maps(model, prepare(photo.pixels, model).pixels, layer)
    order = np.argsort(-maps.strengths, kind="stable")
    c, h, w = maps.values.shape
    for path in asked.output:
        if path.suffix.lower() == ".npz":
            common.write(path, to_npz(maps, picture=common.name_of(asked.photo), digest=photo.digest))
        else:
            scale = Scale.of(maps)
            sheet = montage(maps.values[order], scale, tile=max(min(h, w), 48), gap=2)
            title = f"Activation maps of {layer}, strongest first"
            lines = (f"{model.title}, {c} × {h} × {w}", common.name_of(asked.photo))
            common.write(path, to_figure(sheet.picture, scale, title=title, lines=lines, unit="activation"))
    print(f"{layer} of {model.title}: {c} maps of {h} × {w}, {len(maps.dead)} of them 0 everywhere.")
    strongest = ", ".join(f"{channel} ({maps.strengths[channel]:.3g})" for channel in order[: common.TOP])
    print(f"Strongest channels, by root mean square: {strongest}.")
