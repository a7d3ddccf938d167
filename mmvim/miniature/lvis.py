"""The categories of LVIS v1, as far as scenes show them."""

from collections import Counter

#: Ids of LVIS v1 for what is drawn.
LVIS_NUMBERS = {'airplane': 3, 'boat': 118, 'car': 207, 'dog': 378, 'person': 793}
_COUNT = 1203
_NAMES = {**{number: name for name, number in LVIS_NUMBERS.items()}, 207: 'car_(automobile)'}


def lvis_categories(annotations: list[dict]) -> list[dict]:
    """All 1203 entries of ``categories``; what is not drawn is named by its number.

    ``frequency``, by which LVIS groups its results, is ``'r'``, ``'c'`` or ``'f'``: up to 10 images, up to 100, more.
    """
    images = Counter(category for category, _ in {(each['category_id'], each['image_id']) for each in annotations})
    return [
        {
            'id': number,
            'name': _NAMES.get(number, f'category_{number}'),
            'synset': f'{_NAMES.get(number, f"category_{number}")}.n.01',
            'frequency': 'r' if images[number] <= 10 else 'c' if images[number] <= 100 else 'f',
            'image_count': images[number],
            'instance_count': sum(each['category_id'] == number for each in annotations),
        }
        for number in range(1, _COUNT + 1)
    ]
