// Everything an embedder needs: tensors and their graph, networks, weight files, pictures and explanations.
#pragma once

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/models.h"
#include "grapnel/nn/summary.h"
#include "grapnel/viz/class_names.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/explain.h"
#include "grapnel/viz/grid.h"
#include "grapnel/viz/overlay.h"
#include "grapnel/viz/transforms.h"
#include "grapnel/weights/weights.h"
