/**
 * All components, from one place.
 * @module
 */
export { Badge, Button, ButtonLink, Code, CopyButton, KeyValue, Page, Panel, Spinner, StatusDot, Time, Truncated } from "./ui/basics.js";
export { ConfirmDialog, Dialog, confirm } from "./ui/dialog.js";
export { Field, Form, useForm } from "./ui/form.js";
export { Chart } from "./ui/chart.js";
export { CommandPalette } from "./ui/palette.js";
export { Empty, ErrorState, Loading, Loaded } from "./ui/states.js";
export { Markdown } from "./ui/markdown.js";
export { Table } from "./ui/table.js";
export { Tabs } from "./ui/tabs.js";
export { Toasts, failed, toast } from "./ui/toasts.js";
export { VirtualList, rowSource } from "./ui/virtual-list.js";
