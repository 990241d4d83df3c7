"""The upper half of a picture: sections along a spine, shortcuts above it, the shapes of the maps below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipway.drawing.anatomy import Kind
from skipway.drawing.outline import Card, Group, Outline, Section, Shape
from skipway.drawing.scene import Box, Frame, Label, Line, LineStyle, Scene, text_width

SMALL, NORMAL = 7.5, 8.5
OP_HEIGHT, OP_GAP, OP_PAD, CARD_PAD = 14.0, 2.5, 4.0, 4.0
GAP = 22.0  # between cards: room for a sum, the shape's leader and the next fork
FORK = 6.5  # from a card to the fork before it and the sum behind it
PANEL_PAD, PANEL_GAP = 13.0, 10.0
SUM_RADIUS = 4.0
DECK = 3.0  # how far each card of a deck looks out above the one before it
ARC_RISE = 15.0
HEADER = 17.0
BADGE_RADIUS = 6.0
TALLEST_MAP, SMALLEST_MAP, MAP_DEPTH = 32.0, 3.0, 0.3
MAP_REACH = TALLEST_MAP * (1 + MAP_DEPTH) / 2
LABEL_DISTANCE = 7.0


def shape_text(shape: Shape) -> str:
    """Channels, height and width, as `skipway summary` orders them."""
    return "×".join(map(str, shape))


def kind_letter(number: int) -> str:
    """A, B, C... for the kinds of units in order of appearance."""
    return chr(ord("A") + number)


def lay_spine(network: Outline) -> Scene:
    """The spine as a scene of its own, its top left corner at the origin."""
    return _Spine(network).scene


@dataclass(frozen=True)
class _Levels:
    """Heights, from the top: of the shortcuts' arcs, the spine itself, the badges below units, the panels' lower edge,
    the maps' middle, and the lower edge of all."""

    arcs: float
    spine: float
    badges: float
    panels: float
    maps: float
    bottom: float


def _levels(network: Outline) -> _Levels:
    groups = [group for section in network.sections for group in section.groups]
    cards = [card for group in groups for card in group.cards]
    tallest = max(map(_card_height, cards)) / 2
    unit = max((_card_height(card) for card in cards if card.kind), default=0.0) / 2
    arched = any(kind.shortcut != "none" for kind in network.kinds)
    bracketed = any(len(group.cards) > 1 for group in groups)
    spine = HEADER + 6 + max(tallest, unit + 2 * DECK + (ARC_RISE + SMALL if arched else 0))
    badges = spine + unit + 5 + BADGE_RADIUS
    panels = max(spine + tallest, badges + BADGE_RADIUS + (16 if bracketed else 0) if network.kinds else 0.0) + 7
    maps = panels + 14 + MAP_REACH
    return _Levels(
        spine - unit - 2 * DECK - ARC_RISE, spine, badges, panels, maps, maps + MAP_REACH + 10 + SMALL / 2
    )  # fmt: skip


class _Spine:
    """Places sections from left to right. The last card ends at `x`, and the flow behind it, which may start at a sum,
    at `tail`; `reached` is where the card's panel ends."""

    def __init__(self, network: Outline) -> None:
        self.levels = _levels(network)
        self.scene = Scene(network.spec.name, height=self.levels.bottom)
        self.letters = {kind: kind_letter(number) for number, kind in enumerate(network.kinds)}
        shapes = [card.shape for section in network.sections for group in section.groups for card in group.cards]
        self.widest = max(map(_side, [network.input_shape, *shapes]))
        self.shown: Shape = ()  # the last shape that was written, and where its text ended
        self.label_end = -math.inf
        self.shape, self.endpoint = network.input_shape, "input"
        self.x = self.reached = self.tail = text_width("input", NORMAL) + 4.0
        self._end("input", 0.0)
        for section in network.sections:
            self._section(section)
        self._flow_to(self.reached + GAP + 2, 0.0)
        self._end("logits" if network.spec.num_classes else "features", self.reached + GAP + 6)
        self.scene.width = self.scene.right()

    def _end(self, text: str, x: float) -> None:
        self.scene.labels.append(Label(text, x, self.levels.spine, NORMAL, "start", tone="muted"))

    def _section(self, section: Section) -> None:
        boxed = any(card.kind for group in section.groups for card in group.cards)
        pad = PANEL_PAD if boxed else 0.0
        gap = PANEL_GAP if boxed and self.reached > self.x else GAP
        lefts: list[float] = []
        for group in section.groups:
            lefts.append(self._group(group, gap, 0.0 if lefts else pad))
            gap = GAP
        frame = Frame(lefts[0] - pad, 0.0, self.x - lefts[0] + 2 * pad, self.levels.panels)
        if boxed:
            self.scene.boxes.append(Box("panel", "stage", frame, section.title))
        self.reached = frame.right
        self.scene.labels.append(Label(section.title, frame.x + frame.width / 2, HEADER / 2 + 2, NORMAL, bold=True))

    def _group(self, group: Group, gap: float, pad: float) -> float:
        lefts: list[float] = []
        for card in group.cards:
            repeat = group.repeat if len(group.cards) == 1 else 1
            lefts.append(self._card(card, repeat, gap=GAP if lefts else gap, pad=0.0 if lefts else pad))
        left = lefts[0]
        if len(group.cards) > 1:
            y = self.levels.badges + BADGE_RADIUS + 4
            points = ((left, y), (left, y + 4), (self.x, y + 4), (self.x, y))
            self.scene.lines.append(Line(points, "bracket", radius=2.0))
            self.scene.labels.append(Label(f"× {group.repeat}", (left + self.x) / 2, y + 11, NORMAL, bold=True))
        return left

    def _card(self, card: Card, repeat: int, *, gap: float, pad: float) -> float:
        """A card, `gap` behind what stands before it, and `pad` inside its panel; where it begins."""
        width = _card_width(card)
        height = _card_height(card)
        left = self._flow_to(self.reached + gap + pad, pad)
        frame = Frame(left, self.levels.spine - height / 2, width, height)
        for behind in range(min(repeat, 3) - 1, 0, -1):
            inset = 2.5 * behind
            deck = Frame(left + inset, frame.y - DECK * behind, width - 2 * inset, height / 2)
            self.scene.boxes.append(Box("back", "card", deck, card.endpoint))
        self.scene.boxes.append(Box("card", "unit" if card.kind else "card", frame, card.endpoint))
        y = frame.y + CARD_PAD
        for op in card.ops:
            place = Frame(left + CARD_PAD, y, width - 2 * CARD_PAD, OP_HEIGHT)
            self.scene.boxes.append(Box("op", op.role, place, op.text))
            self.scene.labels.append(Label(op.text, left + width / 2, y + OP_HEIGHT / 2, SMALL))
            y += OP_HEIGHT + OP_GAP
        self.x = self.reached = self.tail = frame.right
        self.shape, self.endpoint = card.shape, card.endpoint
        if card.kind:
            self._badge(card.kind, left + width / 2, repeat)
            if card.kind.shortcut != "none":
                self._arc(card, card.kind, frame, repeat)
        return left

    def _badge(self, kind: Kind, x: float, repeat: int) -> None:
        text = f"× {repeat}" if repeat > 1 else ""
        width = 2 * BADGE_RADIUS + (3 + text_width(text, NORMAL, bold=True) if text else 0)
        badge(self.scene, self.letters[kind], x - width / 2 + BADGE_RADIUS, self.levels.badges)
        if text:
            self.scene.labels.append(Label(text, x + width / 2, self.levels.badges, NORMAL, "end", bold=True))

    def _arc(self, card: Card, kind: Kind, frame: Frame, repeat: int) -> None:
        style: LineStyle = "flow" if kind.shortcut == "none" else kind.shortcut
        start, end = frame.x - FORK - 1, frame.right + FORK
        top, spine = self.levels.arcs, self.levels.spine
        points = ((start, spine), (start, top), (end, top), (end, spine - SUM_RADIUS))
        self.scene.lines.append(Line(points, style, 18.0, arrow=True, endpoint=card.endpoint, units=repeat))
        if kind.note:
            self.scene.labels.append(Label(kind.note, (start + end) / 2, top - 5.5, SMALL, tone=style))
        circle(self.scene, "+", end, spine)
        self.scene.lines.append(Line(((self.x, spine), (end - SUM_RADIUS, spine))))
        self.tail = end + SUM_RADIUS

    def _flow_to(self, x: float, pad: float) -> float:
        """Draw the flow on to `x`, which lies `pad` inside its panel, or farther where the shape's text needs it;
        where the flow then ends. A shape that has not changed is not written again."""
        joint = (self.reached + x - pad) / 2
        if self.shape != self.shown:
            text = shape_text(self.shape)
            half = text_width(text, SMALL) / 2
            late = max(0.0, self.label_end + LABEL_DISTANCE + half - joint)
            joint, x = joint + late, x + 2 * late
            self.label_end, self.shown = joint + half, self.shape
            self._map(joint)
            self.scene.labels.append(Label(text, joint, self.levels.maps + MAP_REACH + 10, SMALL))
        points = ((self.tail, self.levels.spine), (x, self.levels.spine))
        self.scene.lines.append(Line(points, arrow=True, shape=self.shape, endpoint=self.endpoint))
        return x

    def _map(self, x: float) -> None:
        """A cuboid as tall as the map, as thick as it has channels, both on scales that keep small maps visible."""
        tallest = math.log2(self.widest + 1)
        height = SMALLEST_MAP + (TALLEST_MAP - SMALLEST_MAP) * math.log2(_side(self.shape)) / tallest
        width, depth = 1.5 + 1.1 * math.log2(self.shape[0] + 1), MAP_DEPTH * height
        top = self.levels.maps - (height - depth) / 2
        face = Frame(x - (width + depth) / 2, top, width, height)
        self.scene.boxes.append(Box("map", "map", face, shape_text(self.shape), depth))
        self.scene.lines.append(Line(((x, self.levels.spine + 1), (x, top - depth - 3)), "leader"))


def badge(scene: Scene, letter: str, x: float, y: float) -> None:
    """The letter of a kind of unit, in a disc around (x, y)."""
    frame = Frame(x - BADGE_RADIUS, y - BADGE_RADIUS, 2 * BADGE_RADIUS, 2 * BADGE_RADIUS)
    scene.boxes.append(Box("badge", "badge", frame, letter))
    scene.labels.append(Label(letter, x, y, SMALL, tone="paper", bold=True))


def circle(scene: Scene, sign: str, x: float, y: float) -> None:
    """A sum or a product at (x, y)."""
    frame = Frame(x - SUM_RADIUS, y - SUM_RADIUS, 2 * SUM_RADIUS, 2 * SUM_RADIUS)
    scene.boxes.append(Box("node", sign, frame, sign))


def _side(shape: Shape) -> int:
    return shape[-1] if len(shape) == 3 else 1


def _card_width(card: Card) -> float:
    return max(44.0, *(text_width(op.text, SMALL) + 2 * OP_PAD for op in card.ops)) + 2 * CARD_PAD


def _card_height(card: Card) -> float:
    return len(card.ops) * (OP_HEIGHT + OP_GAP) - OP_GAP + 2 * CARD_PAD
