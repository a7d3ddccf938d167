"""COCO's JSON files, each matter by itself: ids, categories, boxes, masks, images; and copies that are mended."""
