"""Numbers from masks: bars, arms and their light, with units, errors and quality flags; masks on spaxels.

Works on arrays of fractions and their pixel grids, and on folders of predictions. Must not know networks; imports no
torch. Angles on the sky are position angles, north through east.

Public: `bars.measure_bar`, `arms.measure_arms`, `light.measure_light`, `galaxy.measure_masks`, `table.measure_table`,
`spaxels.masks_on_spaxels`, `spaxels.split`, `disk.Disk`, `disk.disk_of_light`, `flags.decode_flags`.
"""
