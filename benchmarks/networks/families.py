"""The networks that are examined, and how each is built."""

from torch import nn

import tinysearch as ts

#: Outputs of each.
CLASSES = 10

#: Small members of the families that people put on devices, and of some others.
NAMES = tuple(
    f"{library}:{name}" if library else name
    for library, names in {
        "": "mobilenetv2-w0.35 mobilenetv2-w0.35-tf mobilenetv3-small proxylessnas-mobile mcunet-5fps "
        "mobilenetv2-w0.35-mcu proxylessnas-w0.3",
        "timm": "mobilenetv1_100 mobilenetv2_035 mobilenetv3_small_050 mobilenetv3_large_075 "
        "mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium_075 mobileone_s0 efficientnet_b0 efficientnet_lite0 "
        "tf_efficientnet_lite0 mnasnet_050 semnasnet_050 spnasnet_100 tinynet_e lcnet_035 mixnet_s fbnetc_100 "
        "fbnetv3_b hardcorenas_a rexnet_100 ghostnet_050 ghostnetv2_100 ghostnetv3_050 repghostnet_050 regnetx_002 "
        "regnety_002 resnet18 resnetv2_18 seresnet18 skresnet18 ecaresnet26t repvgg_a0 repvit_m0_9 starnet_s050 "
        "fasternet_t0 shvit_s1 mambaout_femto inception_next_atto hgnetv2_b0 gernet_s selecsls42 dla46_c "
        "ese_vovnet19b_slim hrnet_w18_small cspresnet50 res2net50_14w_8s dpn48b darknet17 nfnet_l0 densenet121 "
        "convnext_atto convnextv2_atto convmixer_768_32 poolformer_s12 poolformerv2_s12 edgenext_xx_small fastvit_t8 "
        "mobilevit_xxs mobilevitv2_050 efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 "
        "swiftformer_xs nextvit_small levit_128s levit_conv_128s tiny_vit_5m_224 visformer_tiny coat_lite_tiny "
        "pvt_v2_b0 crossvit_tiny_240 convit_tiny pit_ti_224 pit_ti_distilled_224 deit_tiny_patch16_224 "
        "deit_tiny_distilled_patch16_224 vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 cait_xxs24_224 "
        "xcit_nano_12_p16_224 swin_tiny_patch4_window7_224 twins_pcpvt_small nest_tiny mixer_s32_224 resmlp_12_224 "
        "gmlp_ti16_224 maxvit_nano_rw_256 gcvit_xxtiny coatnet_nano_rw_224 mvitv2_tiny focalnet_tiny_srf "
        "davit_tiny caformer_s18 botnet26t_256 lambda_resnet26t",
        "torchvision": "alexnet squeezenet1_1 vgg11_bn mobilenet_v2 mobilenet_v3_small mobilenet_v3_large "
        "shufflenet_v2_x0_5 mnasnet0_5 efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf resnet18 "
        "densenet121 googlenet convnext_tiny swin_t swin_v2_t vit_b_32 maxvit_t",
    }.items()
    for name in names.split()
)


def build(name: str, size: int | None) -> nn.Module:
    """A network by name with random weights, for images of a size or of its own."""
    return ts.load_backbone(name, num_classes=CLASSES, input_size=size, weights=None)
