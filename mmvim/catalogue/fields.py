"""Configs of the fields (docs/fields.md): benchmarks on which nobody has published numbers of these backbones.

They are no models of the zoo: without numbers and weights there is nothing to list or to evaluate. Their metafiles let
OpenMMLab's tools find the configs.
"""

#: Folder of configs -> ending of their names -> the data set that they train on.
FIELDS = {
    'aerial': {'isaid': 'iSAID', 'loveda': 'LoveDA', 'potsdam': 'ISPRS Potsdam', 'vaihingen': 'ISPRS Vaihingen'},
    'driving': {'cityscapes': 'Cityscapes'},
    'lvis': {'lvis': 'LVIS v1'},
    'medical': {
        'chase_db1': 'CHASE_DB1',
        'drive': 'DRIVE',
        'hrf': 'HRF',
        'stare': 'STARE',
        'synapse': 'Synapse',
    },
    'rotated': {'dota': 'DOTA 1.0'},
    'video': {'vspw': 'VSPW'},
}
